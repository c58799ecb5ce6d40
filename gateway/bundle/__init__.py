"""What goes onto a board: the firmware or its settings, with a manifest that says so exactly."""
