"""From a folder of images to a table: data x network x method x metric, row by row."""
