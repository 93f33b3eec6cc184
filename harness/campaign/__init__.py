"""Many trials: plan them, hand them out, record them, retry them, reproduce one."""
