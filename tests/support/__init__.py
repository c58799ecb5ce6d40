"""What tests share: the real broker, a subscriber, and the watch over what is left behind."""
