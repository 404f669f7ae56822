"""Who watches VM exits: statistics, trace, explanation, save points."""
