"""The page `index.html` in the folder of `explain` and `demo`."""
