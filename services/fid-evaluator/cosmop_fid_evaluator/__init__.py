"""How far one set of stored images is from another: FID and its companions, each with its interval and its protocol."""
