"""What both apps say in the same way over HTTP: errors, health."""
