"""The rules of a conversation, and the environments that play by them."""
