"""The Llama itself: shapes, layers, attention and its masks, cache, heads, and the precision of a device."""
