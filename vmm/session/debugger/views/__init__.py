"""What there is to see of a stopped machine: functions of a `Subject` that change nothing and cost no cycle.

Each gives a frozen dataclass with `text()`, lines of 80 columns at most, and `json()`, plain values.
"""
