"""Who is let in: `policy` decides, everything else asks it."""
