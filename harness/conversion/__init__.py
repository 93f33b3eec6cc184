"""Features in other forms, made a region store: TSV, one array an image, one array of many images."""
