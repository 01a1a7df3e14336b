"""Races: arms that are surely not the best fall out, and the cells they would have had go to the others."""
