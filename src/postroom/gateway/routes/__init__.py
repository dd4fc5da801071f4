"""The routes, one file per service; each can be mounted alone (`…_routes(service) -> APIRouter`)."""
