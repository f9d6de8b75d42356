"""What a page of the report shows."""


def names(page, table):
    return page.locator(f"{table} tbody th").all_inner_texts()


def cards(page):
    return page.locator(".card h3").all_inner_texts()
