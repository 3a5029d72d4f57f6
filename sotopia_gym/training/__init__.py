"""From episodes to what trainers eat."""
