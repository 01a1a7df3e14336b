"""A paper's sentences, judged on records: claims, the arms that they compare, verdicts, words and the figure."""
