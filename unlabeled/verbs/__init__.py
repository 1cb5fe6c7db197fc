"""What each verb does. `unlabeled.api` has their signatures; the command line and Python share them."""
