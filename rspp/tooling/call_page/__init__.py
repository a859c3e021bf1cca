"""What people look at: a recorded call and a regression run, each as one self-contained page."""
