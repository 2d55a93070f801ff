"""What the service answers, as frozen values. Unknown fields of a newer service are left out."""
