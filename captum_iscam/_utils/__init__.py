"""What several rooms of the package share; nothing of it is API."""
