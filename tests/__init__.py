"""The tests of gonogo."""
