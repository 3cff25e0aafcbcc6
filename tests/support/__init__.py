"""What the tests share: servers that live as long as a test run, and the code of documents."""
