"""Where records go and come from. Knows no run object and never imports ``core``."""
