"""Keywords to images and sightings: sources find candidates, the downloader fetches them politely and safely, the recorder says what came of each."""
