"""Features in other forms, made a region store: TSV, one array per image, one array of many images."""
