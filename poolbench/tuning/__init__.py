"""The search for the recipe of each pool, all with the same number of trials."""
