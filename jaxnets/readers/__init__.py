"""One file a source: each turns files into checked arrays, or says in one line what is wrong with them."""
