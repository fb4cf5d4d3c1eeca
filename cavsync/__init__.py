"""From raw videos to a trained, evaluated and usable CAV-MAE Sync model."""
