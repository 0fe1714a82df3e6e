"""How fast the store is: the same work for it and its peers, turn by turn in one run. See docs/performance.md."""
