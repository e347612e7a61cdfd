"""Those who take part, one module each: how they are configured best, and how they are started."""
