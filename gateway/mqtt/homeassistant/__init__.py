"""What Home Assistant is told so that devices appear there by themselves; pure."""
