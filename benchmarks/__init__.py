"""Measurements, kept apart from the tests: numbers are compared within one run, never alone."""
