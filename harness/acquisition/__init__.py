"""Files of datasets, downloaded as their cards allow."""
