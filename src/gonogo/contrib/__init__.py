"""Other systems that deliver, show or carry what gonogo does. Each needs an extra."""
