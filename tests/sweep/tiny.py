"""A cell that trains in a moment, as options."""

TINY = [
    "data=shapes",
    "data.train_samples=60",
    "data.test_samples=20",
    "data.size=16",
    "model.widths=[4,8]",
    "model.depths=[1,1]",
    "trainer.epochs=1",
    "trainer.batch_size=20",
]
