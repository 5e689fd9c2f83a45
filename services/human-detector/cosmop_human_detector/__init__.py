"""Which images show people: screens the unique ones, and trains the filter that does it."""
