"""Two stages of retrieval: one method proposes the first items of every query, another one orders these."""
