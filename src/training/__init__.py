"""The LightningModule, and what belongs to fitting it."""
