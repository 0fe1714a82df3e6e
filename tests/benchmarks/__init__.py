"""The benchmark itself: that it measures what it says. No figure is asserted anywhere."""
