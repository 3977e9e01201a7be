"""Speech that espeak-ng makes: which texts, in which manner, spoken into a corpus or a folder."""
