"""The paper's Figure 3."""
