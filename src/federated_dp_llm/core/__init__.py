"""What is decided about a query before anything is asked."""
