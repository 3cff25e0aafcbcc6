"""Programs that use gonogo, complete and run by the tests."""
