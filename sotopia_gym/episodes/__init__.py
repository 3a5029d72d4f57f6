"""What a finished conversation leaves behind, and files of it."""
