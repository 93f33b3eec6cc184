"""Further looks at the scores of a trial, never ranked: hubness, category-level mAP, two-way choices."""
