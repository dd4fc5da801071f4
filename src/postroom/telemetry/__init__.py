"""What the platform says about itself. Logs now; metrics, traces and alerts join them here."""
