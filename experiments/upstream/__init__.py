"""Short programs that stand alone, to be sent to the projects this one is built on."""
