"""What the domains share: how errors end a run, how rows and pictures are shown, the last word of a check."""
