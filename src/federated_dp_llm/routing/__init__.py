"""Which nodes answer, and how an answer is made of what they say."""
