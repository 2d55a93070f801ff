"""What the law asks to be written down: records of processing, requests of data subjects."""
