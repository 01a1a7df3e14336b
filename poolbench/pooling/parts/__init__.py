"""What several pools are made of: windows, images of a map, filters, ranks, powers, draws."""
