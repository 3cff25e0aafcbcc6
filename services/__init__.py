"""Doors through which programs of this repository reach gonogo; no logic lives here."""
