"""Where everything in a drawing goes: numbers only, made by pure functions; templates make pictures of them."""
