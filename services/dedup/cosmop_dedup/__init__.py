"""Which images are copies of which: perceptual hashes (role ``hash``) and the deciding index (role ``index``)."""
